"""What a design costs: exact counts of each hardware unit, times prices, for every choice."""
