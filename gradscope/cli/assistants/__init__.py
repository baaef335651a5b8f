"""``gradscope mcp``: what assistants and editors may ask, as tools of the Model Context Protocol.

Each tool is a command of gradscope in a process of its own: one that hangs, crashes or is called off takes nothing with
it, and the server itself imports no torch.
"""
