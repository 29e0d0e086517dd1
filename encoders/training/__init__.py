"""Training of interest models: data to windows, losses, the loop, and the folder it leaves.

No Kafka here: events come as :class:`encoders.evaluation.interactions.Interactions`. The modules
that train are those that serve.
"""
