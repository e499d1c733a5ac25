/* kumatp: transparent-proxy rules for the Kuma service mesh.
 *
 * Generated from src/ffi by cbindgen; `KUMATP_BLESS=1 cargo test --test header` rewrites it.
 */

#ifndef KUMATP_H
#define KUMATP_H

#include <stddef.h>
#include <stdint.h>

/**
 * The number of the ABI that this header describes. It changes only with an incompatible change, and the
 * soname with it; compare it with `kumatp_abi_version()`.
 */
#define KUMATP_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the number of the ABI that the library has.
 *
 * Never fails; may be called from any thread. Since 0.1.
 */
uint32_t kumatp_abi_version(void);

/**
 * Returns the version of the library, such as "0.1.0".
 *
 * The text is NUL-terminated and static: never free it. Never fails; may be called from any thread.
 * Since 0.1.
 */
const char *kumatp_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KUMATP_H */
