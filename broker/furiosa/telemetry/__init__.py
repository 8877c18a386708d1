"""Telemetry: what the broker tells of itself over HTTP, to Prometheus and to whoever checks its health.

A process of its own, started by the broker and unprivileged: it reads what strangers send, so it holds
nothing but a listening socket and an inherited socket to the broker, of which it can ask two questions.

`broker_link` asks, `exposition` writes numbers as Prometheus reads them, `pages` says what is behind which
path.
"""
