"""The measuring room: ``python -m benchmarks`` says what there is; nothing here is installed."""
