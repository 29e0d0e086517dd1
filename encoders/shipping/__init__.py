"""From a trained model to a bundle: smaller text models, their quality and speed side by side."""
