"""Fine-tuning of a vision-language model with a depth code on MSMU-style conversations."""
