"""What a job costs: cold starts, warm CPU, calls of AWS, money and throughput, each beside its target."""
