/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* getpeername(2): the workload sees the destination that it asked for, as it does with translated packets. */
#include "outbound.h"

SECTION("cgroup/getpeername4") int getpeername4(struct bpf_sock_addr *context)
{
	return show_original_v4(context);
}

SECTION("cgroup/getpeername6") int getpeername6(struct bpf_sock_addr *context)
{
	return show_original_v6(context);
}
