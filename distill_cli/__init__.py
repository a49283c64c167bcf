"""distill: knowledge distillation from the command line, with an honest control beside every student."""

__version__ = "0.1.0"
