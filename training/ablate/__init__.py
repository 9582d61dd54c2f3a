"""The paper's ablation at the size of nano: ways of giving depth to the model, with controls."""
