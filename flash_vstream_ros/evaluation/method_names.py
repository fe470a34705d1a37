"""Names of the evaluated methods. Imports no torch, so that the command line can offer them at once."""

OURS = "ours"
# The engine with this memory.policy.
POLICIES = ("recent", "uniform", "timechat_online", "infinipot_v", "fluxmem")
PUBLISHED, UNIFORM_64, LAST_4, NO_VISION = CONTROLS = ("published", "uniform_64", "last_4", "no_vision")
METHODS = (OURS, *POLICIES, *CONTROLS)
