/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the programs need of the kernel: its types, its helpers, and loads and stores that its verifier takes. */
#ifndef KUMATP_KERNEL_H
#define KUMATP_KERNEL_H

#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define offset_of(type, field) __builtin_offsetof(type, field)

/* The programs are compiled for little-endian kernels only. */
#define swap16(value) __builtin_bswap16(value)
#define swap32(value) __builtin_bswap32(value)

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define SOL_IP 0
#define SOL_IPV6 41
/* The same number in linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h. */
#define SO_ORIGINAL_DST 80

/* What a program at a cgroup answers: the system call goes on, or fails with EPERM. */
#define ALLOW 1
#define REFUSE 0

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)BPF_FUNC_get_current_uid_gid;
static u64 (*const bpf_get_netns_cookie)(void *context) = (void *)BPF_FUNC_get_netns_cookie;
static void *(*const bpf_sk_storage_get)(void *map, void *socket, void *value, u64 flags) =
	(void *)BPF_FUNC_sk_storage_get;
static long (*const bpf_sock_map_update)(struct bpf_sock_ops *context, void *map, void *key, u64 flags) =
	(void *)BPF_FUNC_sock_map_update;
static long (*const bpf_sk_assign)(void *context, void *socket, u64 flags) = (void *)BPF_FUNC_sk_assign;
static long (*const bpf_sk_release)(void *socket) = (void *)BPF_FUNC_sk_release;

/*
 * The kernel rewrites every access to a context or a socket, which it can only at a fixed offset from the pointer that
 * it gave. Compilers like to merge such accesses into arithmetic on that pointer, which is then refused; so they are
 * written out.
 */
#define LOAD(width, pointer, type, field)                                                            \
	({                                                                                           \
		u64 loaded;                                                                          \
		asm volatile("%0 = *(" #width " *)(%1 + %2)"                                         \
			     : "=r"(loaded)                                                          \
			     : "r"(pointer), "i"(offset_of(type, field)));                           \
		loaded;                                                                              \
	})
#define LOAD32(pointer, type, field) ((u32)LOAD(u32, pointer, type, field))
#define LOAD_POINTER(pointer, type, field) ((void *)LOAD(u64, pointer, type, field))
#define STORE32(pointer, type, field, value)                                                         \
	asm volatile("*(u32 *)(%0 + %1) = %2"                                                        \
		     :                                                                               \
		     : "r"(pointer), "i"(offset_of(type, field)), "r"((u64)(value))                  \
		     : "memory")

#endif
