"""The paper's net: features, studies and the tables that training left."""
