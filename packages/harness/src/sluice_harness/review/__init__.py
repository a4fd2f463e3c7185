"""The review: one HTML file on a stage, to be opened offline.

What an SRE would click together from dashboards, alarms and queries, with what is missing in it named first.
"""
