"""The Model Context Protocol server of `flash-vstream-ros mcp`: tools of agents, as calls of a running node's services.

May import client, ros, engine and the modules of cli. Needs the extra `mcp`, but no torch.
"""
