/* The header may be included by several files of a program, and several times by one. */
#include "kumatp.h"
#include "kumatp.h"

#include "again.h"
#include "check.h"

const char *again(kumatp_status status)
{
    CHECK(KUMATP_NUL_TERMINATED > KUMATP_MAX_TEXT);
    return kumatp_status_name(status);
}
