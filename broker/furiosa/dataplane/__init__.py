"""The data plane: inference over gRPC for clients that cannot share memory with the device.

A process of its own, started by the broker and unprivileged. Towards clients it is the service
`Inference`; towards workers it is a queue-pair client like any other; of the broker it asks, over an
inherited socket, for the queues of those whose session token it was shown.

`broker_link` asks, `lane` is one queue, `port` one program of one session, `ports` the table of them,
`service` the gRPC side, `listeners` where clients connect: on the Unix socket a session's token is
enough, on TCP its owner proves again who he is.
"""
