"""Live metrics of the instrumented application, for Prometheus.

Two modules, because of their order: `directory` has to run before anything imports prometheus_client, which
`metrics` does.
"""
