"""Where people and agents meet sdvlm: one protocol, a page in the browser, a server of tools."""
