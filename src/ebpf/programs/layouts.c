/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* No program: names the types that the loader gets, so that the compiler describes them. */
#include "state.h"

struct {
	struct settings settings;
	struct network_key network_key;
	struct owner_key owner_key;
	struct owner_port_key owner_port_key;
	enum setting setting;
	enum network network;
	enum owner owner;
	enum counter counter;
	enum listener listener;
} layouts;
