"""Published evaluation protocols: one file per protocol, over several networks and several runs of each."""
