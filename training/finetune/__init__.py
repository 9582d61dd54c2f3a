"""Fine-tuning of a LLaVA with a depth code on MSMU-style conversations."""
