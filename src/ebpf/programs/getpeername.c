/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* getpeername(2): the workload sees the destination that it asked for, as it does with translated packets. */
#include "outbound.h"

SECTION("cgroup/getpeername4") int getpeername4(struct bpf_sock_addr *context)
{
	struct original *original;
	struct destination peer;

	read_v4(context, &peer);
	original = recall(context, &peer);
	if (original) {
		write_v4(context, original->address.words[3]);
		write_port(context, original->port);
	}
	return ALLOW;
}

SECTION("cgroup/getpeername6") int getpeername6(struct bpf_sock_addr *context)
{
	struct original *original;
	struct destination peer;

	read_v6(context, &peer);
	original = recall(context, &peer);
	if (original) {
		write_v6(context, &original->address);
		write_port(context, original->port);
	}
	return ALLOW;
}
