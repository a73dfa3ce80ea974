"""The dashboard as web pages. Needs the extra ``dashboard``."""
