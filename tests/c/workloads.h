/* Pods and Dataplanes. `size` is that of large documents in bytes. */
#ifndef KUMATP_TEST_WORKLOADS_H
#define KUMATP_TEST_WORKLOADS_H

#include "kumatp.h"

#ifdef __cplusplus
extern "C" {
#endif
void workloads(size_t size);
#ifdef __cplusplus
}
#endif

#endif
