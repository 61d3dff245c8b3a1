"""Pictures drawn again from the recipes that their files hold, and compared with what was drawn first."""
