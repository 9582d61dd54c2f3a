"""For all tests: an example of a property may take as long as a busy machine makes it take."""

from hypothesis import settings

settings.register_profile("sdvlm", deadline=None)
settings.load_profile("sdvlm")
