#ifndef KUMATP_TEST_PACKETS_H
#define KUMATP_TEST_PACKETS_H

#include <stddef.h>

#include "kumatp.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Simulation, of packets that are right, wrong, random and many. */
void packets(const kumatp_plan *plan, const kumatp_plan *other, size_t size);

#ifdef __cplusplus
}
#endif

#endif
