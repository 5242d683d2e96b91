"""The rooms of a training run: what is shown, what is lost, what is kept."""
