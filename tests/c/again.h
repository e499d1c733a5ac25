#ifndef KUMATP_TEST_AGAIN_H
#define KUMATP_TEST_AGAIN_H

#include "kumatp.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a status, asked for in another file. */
const char *again(kumatp_status status);

#ifdef __cplusplus
}
#endif

#endif
