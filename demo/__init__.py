"""The demonstration: `make demo` runs it, `python -m demo.record` makes what it runs on."""
