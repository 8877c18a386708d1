"""Workers: unprivileged processes, one for each leased device file, that read and run programs.

`pool` is what the broker uses. It drives `worker`, `process`, `spawner` and `link`, which speak
`messages` with the `zygote` and with the `child` package, all of which runs in other processes. Nothing
is imported here: those processes would load the broker's half with it.
"""
