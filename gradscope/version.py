"""The version of gradscope, which recordings carry."""

VERSION = "0.1.0"
