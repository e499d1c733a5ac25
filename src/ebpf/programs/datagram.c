/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * sendmsg(2) and recvmsg(2) of UDP sockets: sends the DNS queries of sockets that are not connected to the sidecar, and
 * gives its answers the address of the server that was asked. A socket that asks several servers gets all answers from
 * the last one.
 */
#include "outbound.h"

INLINE enum fate redirect(struct bpf_sock_addr *context, struct destination *to)
{
	struct destination listener = *to;

	if (to->protocol != IPPROTO_UDP || way_of(context, to) != WAY_DNS_LISTENER)
		return FATE_SAME;
	listener.address = loopback_beside(&to->address);
	listener.port = settings.dns_port;
	return send_to(context, to, &listener, COUNTER_DNS_REDIRECTED);
}

SECTION("cgroup/sendmsg4") int sendmsg4(struct bpf_sock_addr *context)
{
	struct destination to;

	read_v4(context, &to);
	return answer_v4(context, &to, redirect(context, &to));
}

SECTION("cgroup/sendmsg6") int sendmsg6(struct bpf_sock_addr *context)
{
	struct destination to;

	read_v6(context, &to);
	return answer_v6(context, &to, redirect(context, &to));
}

SECTION("cgroup/recvmsg4") int recvmsg4(struct bpf_sock_addr *context)
{
	return show_original_v4(context);
}

SECTION("cgroup/recvmsg6") int recvmsg6(struct bpf_sock_addr *context)
{
	return show_original_v6(context);
}
