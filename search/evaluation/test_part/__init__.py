"""The sealed test signers: opened by `search test` alone, and never without a record."""
