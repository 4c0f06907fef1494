"""The test part: `search test` evaluates on the sealed test signers, and records every opening."""
