"""``python -m stream_app`` is ``interest-stream``."""

from stream_app.cli import main

if __name__ == "__main__":  # the encoder process is spawned and imports this module again
    main()
