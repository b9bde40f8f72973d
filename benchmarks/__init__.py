"""The measuring scripts: ``python -m benchmarks.etl``; nothing here is installed."""
