"""The demo: `make demo` runs it, `python -m demo.record` records its bag and questions."""
