"""The plugin of lmms-eval: the model `sdvlm`, and RGB-D tasks with depth controls.

`model` answers, `functions` are called by the tasks, `__main__` writes tasks and their tables. The
distribution `sdvlm-lmms-eval` (pyproject.toml here) holds only `sdvlm_lmms_eval`, the entry point
by which lmms-eval finds the model; it finds the tasks by `--include_path`.
"""
