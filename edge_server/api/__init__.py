"""HTTP in front of the appliance: parse, call, render. The only package that imports Falcon."""
