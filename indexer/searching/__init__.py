"""From a query to hits: what is asked, what is looked through, and what is shown of it."""
