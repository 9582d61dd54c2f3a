"""How long tests wait for an event.

Not in a conftest: processes that tests start import it too, and a conftest sets their environment.
"""

#: The longest wait for an event, seconds: it turns a hang into a failure and decides nothing else,
#: so that a loaded machine passes too.
PATIENCE_S = 300.0
