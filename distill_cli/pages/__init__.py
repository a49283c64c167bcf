"""A run or a sweep as one HTML file that works anywhere: pictures, tables, and everything they need inside."""
