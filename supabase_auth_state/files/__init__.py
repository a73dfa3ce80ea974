"""The auth folder of Baileys: its file names, read strictly and written safely."""
