"""The engine on CPUs: layers folded over time, compiled scans."""
