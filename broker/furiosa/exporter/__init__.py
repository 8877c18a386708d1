"""The NPU metrics exporter: what the cards of a node say, and which pods have them, to Prometheus.

`sources` asks the broker, or reads the device tree; `card_sample` makes numbers of the texts, `core_use` of
the performance counters; `holders` says which pods have what; `families` gives it the published names and
units, `exposition` writes it. `sampler` does all that once in an interval: pages are made of what it has.
"""
