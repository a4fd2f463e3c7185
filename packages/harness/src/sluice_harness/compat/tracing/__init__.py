"""X-Ray on the engine: sampling, the segments of AWS's services, the daemon's port and X-Ray's own API."""
