/* kumatp: transparent-proxy rules for the Kuma service mesh.
 *
 * Generated from src/ffi by cbindgen; `KUMATP_BLESS=1 cargo test --test header` rewrites it.
 *
 * What holds for every function:
 *
 * Order       A function has the handle that it works on first, then its inputs, then its outputs, and an error slot last.
 * Status      Most functions return a kumatp_status: KUMATP_OK, or why nothing was done. The others cannot fail.
 * Errors      The last argument, `err`, is NULL or points to a kumatp_error pointer of the caller's. It is written only by a
 *             call that fails: set it to NULL before, and free what it then holds with kumatp_error_free().
 * Outputs     An output (`out`) is written only by a call that succeeds, and stays as it was otherwise. None may be NULL,
 *             except where its documentation allows it.
 * Handles     What a function gives out belongs to the caller, and only the function kumatp_<type>_free() of its type frees
 *             it, once; giving NULL to that is fine. Handles never change, so a handle may be used by any number of threads
 *             at once, as long as none of them frees it.
 * Texts in    A text is a pointer and a length in bytes, or KUMATP_NUL_TERMINATED, and is UTF-8 of at most KUMATP_MAX_TEXT
 *             bytes. It is lent for the call, not kept. A pointer that goes with the length 0 may be NULL.
 * Texts out   A kumatp_text is UTF-8 with a NUL after it. A `const char *` that a function returns belongs to the handle that
 *             was asked, or is static; never free it.
 * NULL        Where the documentation of a parameter does not allow it, NULL is refused with KUMATP_E_ARGUMENT.
 * Flags       Bits that this version does not know are refused, not ignored.
 * JSON        Documents have the members that are described here. Later versions may add members: pass over those that you do
 *             not know.
 * Threads     Every function may be called from any thread at any time. Nothing is kept between calls, and there is no global
 *             state. Calls that change a network namespace take turns inside the kernel; several namespaces can be changed at
 *             once.
 * Namespaces  `netns_fd` is a file descriptor of a network namespace (/proc/PID/ns/net, /var/run/netns/NAME), lent for the call
 *             and never closed, or -1 for the namespace of the calling thread. The calling thread stays in its namespace: work
 *             in another one is done by a thread of the library's own, which has ended when the call returns. Entering another
 *             namespace needs CAP_SYS_ADMIN.
 * Processes   No signal handler is set, nothing is printed, and nothing aborts but running out of memory: a bug is reported as
 *             KUMATP_E_INTERNAL (and by a line on standard error). Programs are run by the iptables engine, and by the other engines with
 *             KUMATP_APPLY_REPLACE_LEGACY; the call waits for them.
 */

#ifndef KUMATP_H
#define KUMATP_H

#include <stddef.h>
#include <stdint.h>

/**
 * Instead of the length of a text: the text ends at its first NUL. Since 0.1.
 */
#define KUMATP_NUL_TERMINATED SIZE_MAX

/**
 * Marks the functions whose result has to be looked at.
 */
#if defined(__GNUC__)
#define KUMATP_MUST_USE __attribute__((warn_unused_result))
#else
#define KUMATP_MUST_USE
#endif


/**
 * The number of the ABI that this header describes. It changes only with an incompatible change, and the
 * soname with it; compare it with kumatp_abi_version(). Since 0.1.
 */
#define KUMATP_ABI_VERSION 1

/**
 * The longest text that is read, in bytes (64 MiB); a longer one is refused before it is looked at. Since 0.1.
 */
#define KUMATP_MAX_TEXT 67108864

/**
 * The format of a document is JSON. Since 0.1.
 */
#define KUMATP_FORMAT_JSON 1

/**
 * The format of a document is YAML, and so JSON as well. Since 0.1.
 */
#define KUMATP_FORMAT_YAML 2

/**
 * Text for iptables-restore and ip6tables-restore, both with --noflush. Since 0.1.
 */
#define KUMATP_SYNTAX_IPTABLES 1

/**
 * A script for "nft -f". Since 0.1.
 */
#define KUMATP_SYNTAX_NFT 2

/**
 * firewalld's direct.xml. Since 0.1.
 */
#define KUMATP_SYNTAX_FIREWALLD 3

/**
 * A JSON document for programs: the rules with their parts, and the configuration key that asked for each. Since 0.1.
 */
#define KUMATP_SYNTAX_JSON 4

/**
 * The native nf_tables form as a JSON document: tables, chains with their hooks and priorities, rules, sets. Since 0.1.
 */
#define KUMATP_SYNTAX_NATIVE 5

/**
 * A picture: a Mermaid flowchart, as Markdown viewers show it. Since 0.1.
 */
#define KUMATP_SYNTAX_MERMAID 6

/**
 * The same picture in Graphviz's language DOT. Since 0.1.
 */
#define KUMATP_SYNTAX_DOT 7

/**
 * What the engine ebpf would attach, and what its programs would be told, as text. Since 0.1.
 */
#define KUMATP_SYNTAX_EBPF 8

/**
 * Both address families, as far as the plan has them. Since 0.1.
 */
#define KUMATP_FAMILY_ALL 0

/**
 * IPv4 only. Since 0.1.
 */
#define KUMATP_FAMILY_IPV4 4

/**
 * IPv6 only. Since 0.1.
 */
#define KUMATP_FAMILY_IPV6 6

/**
 * A flag of kumatp_plan_render(): long option names and headings in KUMATP_SYNTAX_IPTABLES, as the configuration's
 * "verbose" asks for. Since 0.1.
 */
#define KUMATP_RENDER_LONG 1

/**
 * The engine that talks to the kernel's nf_tables, without any program. Needs CAP_NET_ADMIN. Since 0.1.
 */
#define KUMATP_ENGINE_NETLINK 1

/**
 * The engine that runs the distribution's iptables programs; the others do so with KUMATP_APPLY_REPLACE_LEGACY only. Needs root.
 * Since 0.1.
 */
#define KUMATP_ENGINE_IPTABLES 2

/**
 * The engine that steers sockets by eBPF programs, in libraries that were built with the feature "ebpf"; others answer
 * KUMATP_E_UNSUPPORTED. Where it pins them and which cgroup it deals with is up to the configuration ("ebpf": {"bpffsPath",
 * "cgroupPath"}); "ebpf.enabled" alone chooses no engine here. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, or CAP_SYS_ADMIN,
 * and Linux 5.10 or later with cgroup2. Since 0.1.
 */
#define KUMATP_ENGINE_EBPF 4

/**
 * Every engine that the library has, where several are allowed: whatever is installed, by whichever. Since 0.1.
 */
#define KUMATP_ENGINE_ALL 4294967295

/**
 * A flag of kumatp_plan_apply() with KUMATP_ENGINE_NETLINK and KUMATP_ENGINE_EBPF, which run no program otherwise: rules of an older installation that only the iptables programs can
 * remove, such as those in tables of iptables-legacy, are removed by them once the new ones are active. Without it, tables
 * of iptables-legacy are a KUMATP_E_CONFLICT. Since 0.1.
 */
#define KUMATP_APPLY_REPLACE_LEGACY 1

/**
 * A flag of kumatp_uninstall(): say what would be removed, and change nothing. Since 0.1.
 */
#define KUMATP_UNINSTALL_DRY_RUN 1

/**
 * Nothing is installed. Since 0.1.
 */
#define KUMATP_STATE_ABSENT 0

/**
 * What is installed is what the plan asks for or, without one, what was installed. Since 0.1.
 */
#define KUMATP_STATE_CURRENT 1

/**
 * Something else is installed, or it has been changed, or two engines have rules at once. Since 0.1.
 */
#define KUMATP_STATE_DRIFTED 2

/**
 * Something is installed, and there is nothing to compare it with, or no way to; the document says which. Since 0.1.
 */
#define KUMATP_STATE_UNCOMPARED 3

/**
 * A configuration: always valid, and never changed. Free it with kumatp_config_free().
 */
typedef struct kumatp_config kumatp_config;

/**
 * A Dataplane, as far as it matters to the transparent proxy: always valid, and never changed. Free it with
 * kumatp_dataplane_free().
 */
typedef struct kumatp_dataplane kumatp_dataplane;

/**
 * Why a call failed. Made by a failing call whose last argument is not NULL; free it with kumatp_error_free().
 */
typedef struct kumatp_error kumatp_error;

/**
 * What is known of a host: all that rules depend on besides the configuration. Never changed; free it with
 * kumatp_facts_free().
 */
typedef struct kumatp_facts kumatp_facts;

/**
 * The rules of both families that a configuration asks for on a host. Never changed; free it with kumatp_plan_free().
 */
typedef struct kumatp_plan kumatp_plan;

/**
 * What is installed in a network namespace, as it was when it was looked at. Free it with kumatp_state_free().
 */
typedef struct kumatp_state kumatp_state;

/**
 * A text or document that a call has made: UTF-8. Free it with kumatp_text_free().
 */
typedef struct kumatp_text kumatp_text;

/**
 * How a call ended: KUMATP_OK, or one of KUMATP_E_*. Numbers are never used again for something else, and later
 * versions may add some: treat one that you do not know as a failure.
 */
typedef int32_t kumatp_status;

/**
 * The call did what it says. Since 0.1.
 */
#define KUMATP_OK 0

/**
 * An argument is wrong: NULL, not UTF-8, too long, a number or flag that is not known. The error's field is the
 * name of the parameter. Since 0.1.
 */
#define KUMATP_E_ARGUMENT 1

/**
 * A document is not valid. The error's field is the path of the first problem, such as
 * "redirect.inbound.port"; kumatp_error_to_json() has all of them. Since 0.1.
 */
#define KUMATP_E_CONFIG 2

/**
 * A fact about the host is missing, wrong, or makes the plan impossible. Since 0.1.
 */
#define KUMATP_E_FACTS 3

/**
 * The host, the engine or this build of the library lacks something that is needed. Since 0.1.
 */
#define KUMATP_E_UNSUPPORTED 4

/**
 * A privilege is missing; the message names it. Since 0.1.
 */
#define KUMATP_E_PERMISSION 5

/**
 * Something else is installed, or changed the rules at the same time. Since 0.1.
 */
#define KUMATP_E_CONFLICT 6

/**
 * The operating system refused; see kumatp_error_errno(). Since 0.1.
 */
#define KUMATP_E_OS 7

/**
 * A program that the iptables engine ran has failed; the message has what it said. Since 0.1.
 */
#define KUMATP_E_PROGRAM 8

/**
 * A bug in the library: every function that returns a status may return it. Since 0.1.
 */
#define KUMATP_E_INTERNAL 99

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the number of the ABI that the library has: KUMATP_ABI_VERSION of the header that it was built with.
 *
 * Never fails. Since 0.1.
 */
uint32_t kumatp_abi_version(void);

/**
 * Returns the version of the library, such as "0.1.0".
 *
 * The text is NUL-terminated and static: never free it. Never fails. Since 0.1.
 */
const char *kumatp_version(void);

/**
 * Returns the name of a status, such as "KUMATP_E_CONFIG", and "unknown status" for a number that is none.
 *
 * The text is static: never free it. Never fails. Since 0.1.
 */
const char *kumatp_status_name(kumatp_status status);

/**
 * Returns the status that the failed call returned; KUMATP_OK for NULL.
 *
 * Never fails. Since 0.1.
 */
kumatp_status kumatp_error_status(const struct kumatp_error *error);

/**
 * Returns what went wrong, as text: the field, the offending value and what would be right. A document with
 * several problems has one line for each.
 *
 * The text is NUL-terminated UTF-8, belongs to the error and is valid until kumatp_error_free(); "" for NULL. Never
 * fails. Since 0.1.
 */
const char *kumatp_error_message(const struct kumatp_error *error);

/**
 * Returns what the error is about: a key such as "redirect.inbound.port", a fact, or a parameter.
 *
 * The text is NUL-terminated UTF-8, belongs to the error and is valid until kumatp_error_free(). NULL if the error
 * is about nothing of that kind, and for NULL. Never fails. Since 0.1.
 */
const char *kumatp_error_field(const struct kumatp_error *error);

/**
 * Returns the number that the operating system gave (errno); 0 if it was not involved, and for NULL.
 *
 * Never fails. Since 0.1.
 */
int32_t kumatp_error_errno(const struct kumatp_error *error);

/**
 * Writes an error as a JSON document, for programs and logs.
 *
 * Its members: "status" (number), "name" ("KUMATP_E_CONFIG"), "message", "field" (text or null), "errno" (number),
 * and "problems", all that is wrong with a document: a list of objects with "path", "value" and "expected".
 *
 * @param error  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL; must not be where `error` is kept
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_error_to_json(const struct kumatp_error *error,
                                   struct kumatp_text **out,
                                   struct kumatp_error **err);

/**
 * Frees an error. NULL is fine.
 *
 * Since 0.1.
 */
void kumatp_error_free(struct kumatp_error *error);

/**
 * Returns the bytes of a text.
 *
 * A NUL follows the last byte. They belong to the text and are valid until kumatp_text_free(); "" for NULL. Never
 * fails. Since 0.1.
 */
const char *kumatp_text_data(const struct kumatp_text *text);

/**
 * Returns how many bytes a text has, without the NUL after it; 0 for NULL.
 *
 * Never fails. Since 0.1.
 */
size_t kumatp_text_len(const struct kumatp_text *text);

/**
 * Frees a text. NULL is fine.
 *
 * Since 0.1.
 */
void kumatp_text_free(struct kumatp_text *text);

/**
 * Reads a configuration document in Kuma's format: Kuma's defaults, and what the document says instead.
 *
 * Parsing is validating. An empty document is a valid one. Keys that are not known are no error; see
 * kumatp_config_notes().
 *
 * @param text  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param format  one of KUMATP_FORMAT_*
 * @param[out] out  the configuration; the caller's, for kumatp_config_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the document is not valid, with all of its problems;
 *         KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_parse(const char *text,
                                  size_t len,
                                  uint32_t format,
                                  struct kumatp_config **out,
                                  struct kumatp_error **err);

/**
 * Makes a configuration from several sources, each over the one before: defaults, documents in their order,
 * environment variables, flags.
 *
 * The sources are given as one JSON document with three members, all optional: "documents", a list of objects with
 * "text", "format" ("json" or "yaml") and, for messages, "name"; "environment", an object of variables by name, of which
 * those that begin with KUMA_TRANSPARENT_PROXY_ count; "flags", a list of pairs [name, value] such as
 * ["--redirect-dns-port", "15053"], where a switch has the value "true".
 *
 * @param json  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the configuration; the caller's, for kumatp_config_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `json` is not such a document; KUMATP_E_CONFIG if one of the sources is
 *         not valid, with all problems of all of them; KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_from_layers(const char *json,
                                        size_t len,
                                        struct kumatp_config **out,
                                        struct kumatp_error **err);

/**
 * Looks a configuration document over and reports everything that is to be said about it, as a JSON document.
 *
 * Its members: "valid" (true or false); "problems", a list of objects with "path" (the key), "value" (as given),
 * "expected" (what would be right) and "message" (all three in a sentence); "notes", as kumatp_config_notes() has them;
 * "kuma", a list of the settings that Kuma's own programs refuse or read otherwise, objects with "path", "value", "programs"
 * (a list of "kuma-dp" and "kumactl"), "refused" (true or false), "reason" and "message". The last two lists are empty unless
 * the document is valid.
 *
 * @param text  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param format  one of KUMATP_FORMAT_*
 * @param[out] out  the report; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK, whether the document is valid or not; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if this build of the
 *         library reads no YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_check(const char *text,
                                  size_t len,
                                  uint32_t format,
                                  struct kumatp_text **out,
                                  struct kumatp_error **err);

/**
 * Writes a configuration as a JSON document that kumatp_config_parse() reads back: keys in alphabetical order, with
 * defaults filled in.
 *
 * @param config  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_to_json(const struct kumatp_config *config,
                                    struct kumatp_text **out,
                                    struct kumatp_error **err);

/**
 * Writes a configuration as a YAML document that kumatp_config_parse() reads back.
 *
 * @param config  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if this build of the library writes no YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_to_yaml(const struct kumatp_config *config,
                                    struct kumatp_text **out,
                                    struct kumatp_error **err);

/**
 * Makes the same configuration as far as Kuma 3's own programs can read it: what kumatp_config_to_json() and
 * kumatp_config_to_yaml() write of it, kuma-dp and kumactl take, and take for the same.
 *
 * What they have nothing like is left out or changed, and kumatp_config_notes() of the result has a warning for each.
 *
 * @param config  lent
 * @param[out] out  the other configuration; the caller's, for kumatp_config_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_for_kuma(const struct kumatp_config *config,
                                     struct kumatp_config **out,
                                     struct kumatp_error **err);

/**
 * Writes what there is to say about a configuration, as a JSON document: keys and variables that are not known,
 * settings without effect.
 *
 * It is a list of notes: objects with "severity" ("info" or "warning"), "about" (a key, variable or document) and
 * "text".
 *
 * @param config  lent
 * @param[out] out  the list; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_notes(const struct kumatp_config *config,
                                  struct kumatp_text **out,
                                  struct kumatp_error **err);

/**
 * Writes every key that a configuration can have, as a JSON document.
 *
 * It is a list of objects with "path" (such as "redirect.dns.port"), "inDocuments" (whether documents can hold it),
 * "environment" (the variable that sets it, or null) and "flag" (the flag that sets it, or null); and of a pod on Kubernetes
 * "annotations" and "controlPlane", the lists of the annotations that set it and of the control plane's variables.
 *
 * @param[out] out  the list; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_keys(struct kumatp_text **out,
                                 struct kumatp_error **err);

/**
 * Frees a configuration. NULL is fine. Plans that were made from it stay valid.
 *
 * Since 0.1.
 */
void kumatp_config_free(struct kumatp_config *config);

/**
 * Makes the configuration of a pod on Kubernetes from its annotations, ConfigMaps and the control plane's settings.
 *
 * Nothing is read but what is given, so any agent can ask: no cluster, no file, no environment.
 *
 * The sources are given as one JSON document, with members that are all optional: "pod", the Pod; or, in its place,
 * "annotations", an object of its annotations by name, if no more is known of it; "controlPlane", the environment of the control
 * plane, of which the variables that matter count: an object of variables by name, a list of "NAME=value", or text with
 * one of these a line; "configMap", the ConfigMap of the system namespace, which the operator writes; "customConfigMap", the
 * one of the pod's namespace that the annotation traffic.kuma.io/transparent-proxy-configmap-name names; "profile", the generation
 * of Kuma, "kuma-3" (by default) or "kuma-2.9"; "zoneProxyOnly", true if the pod is a zone proxy and nothing else, according to the
 * Services that select it. A Pod or ConfigMap is an object, or text in YAML or JSON (in JSON only, if this build of
 * the library reads no YAML); in the place of a ConfigMap, the configuration that it holds will do.
 *
 * Annotations and the custom ConfigMap are the tenant's: keys there that name files or programs of the host, or that would
 * leave the pod without rules, are refused.
 *
 * The report is a JSON document. Its members: "config", the configuration as kumatp_config_to_json() has it; "sidecarUid" and
 * "sidecarGid", numbers; "gateway" and "injected" (true or false), whether the pod is a gateway, and whether the injector has
 * been at it; "fromAnnotation" (true or false), whether the configuration is that of the annotation
 * traffic.kuma.io/transparent-proxy-config; where there is one, "probeProxyPort", where the sidecar serves the application's
 * probes, "adminPort", where Envoy's administration listens, and "transparentProxying", what the pod's Dataplane has at
 * networking.transparentProxying; "annotations", those that the injector writes to the pod, by name; "origins", for each key of
 * the configuration an object with "key", "value" (JSON, as text), "source" and, where there are any, "added" and "overridden",
 * each a list of objects with "source" and "value"; "notes", as kumatp_config_notes() has them.
 *
 * @param sources  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the configuration; the caller's, for kumatp_config_free()
 * @param[out] report  the report; the caller's, for kumatp_text_free(). May be NULL: then none is made
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `sources` is not such a document; KUMATP_E_CONFIG if one of the sources is
 *         not valid, with all problems of all of them: the field is the name of an annotation or variable, a path in
 *         the Pod, or the name of a ConfigMap with the path of a key
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_from_pod(const char *sources,
                                     size_t len,
                                     struct kumatp_config **out,
                                     struct kumatp_text **report,
                                     struct kumatp_error **err);

/**
 * Writes a configuration as the value of the annotation traffic.kuma.io/transparent-proxy-config, which
 * kumatp_config_from_pod() reads back.
 *
 * It is YAML (JSON, if this build of the library writes no YAML). As in Kuma's own, lists, switches and groups that
 * say nothing are left out.
 *
 * @param config  lent
 * @param[out] out  the value; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_to_annotation(const struct kumatp_config *config,
                                          struct kumatp_text **out,
                                          struct kumatp_error **err);

/**
 * Fills the placeholders of a Dataplane's template, such as "{{ address }}", as `kuma-dp run --dataplane-var` does before it
 * reads the resource.
 *
 * Only values are accepted that cannot change the structure of the resource. A placeholder that has no variable is an error.
 *
 * @param template  the text, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param variables  a JSON document, lent: an object of variables by name, or a list of "name=value"; at most
 *         KUMATP_MAX_TEXT bytes
 * @param variables_len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the resource, for kumatp_dataplane_parse(); the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `variables` is not such a document; KUMATP_E_CONFIG with every placeholder
 *         that cannot be filled, whose field is "line 3", and every value that is not accepted ("variable address")
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_fill(const char *template_,
                                    size_t len,
                                    const char *variables,
                                    size_t variables_len,
                                    struct kumatp_text **out,
                                    struct kumatp_error **err);

/**
 * Reads a Dataplane in the form of Universal ("type: Dataplane") or of Kubernetes ("kind: Dataplane").
 *
 * Parsing is validating, of what the transparent proxy depends on. Fields that are not known are no error; see "notes" of
 * kumatp_dataplane_to_json().
 *
 * @param text  the resource, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param format  one of KUMATP_FORMAT_*
 * @param[out] out  the Dataplane; the caller's, for kumatp_dataplane_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the resource is not valid, with all of its violations, whose paths
 *         are as Kuma gives them; KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_parse(const char *text,
                                     size_t len,
                                     uint32_t format,
                                     struct kumatp_dataplane **out,
                                     struct kumatp_error **err);

/**
 * Reads a Dataplane as kumatp_dataplane_parse() does, and checks all of it as Kuma's control plane does: what that would refuse is
 * a violation, and what it accepts although it is plainly a slip, such as a field that it drops, is among the "notes" of
 * kumatp_dataplane_to_json(). Which meshes and zones there are, only a control plane knows.
 *
 * How to check is one JSON document, whose member "profile" is the generation of Kuma, "kuma-3" (by default) or "kuma-2.9".
 *
 * @param text  the resource, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param format  one of KUMATP_FORMAT_*
 * @param query  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param query_len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the Dataplane; the caller's, for kumatp_dataplane_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `query` is not such a document; KUMATP_E_CONFIG if Kuma would refuse the resource,
 *         with all of its violations, whose paths are as Kuma gives them; KUMATP_E_UNSUPPORTED if this build of the library reads no
 *         YAML
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_validate(const char *text,
                                        size_t len,
                                        uint32_t format,
                                        const char *query,
                                        size_t query_len,
                                        struct kumatp_dataplane **out,
                                        struct kumatp_error **err);

/**
 * Writes what was read of a Dataplane, as a JSON document.
 *
 * Its members: "name"; "mesh"; "labels", with those that Kuma adds when it stores a resource; "address", "namespace" and "zone",
 * text or null; "inbounds", a list of objects with "port", "address", "servicePort" (both may be null) and "tags"; "outbounds", the
 * backends of networking.outbound; "services", the values of kuma.io/service; "transparentProxying", the section, or null;
 * "isTransparent" (true or false), whether Kuma treats the workload as one with a transparent proxy; "origins", where each
 * key of kumatp_config_from_dataplane() comes from if that has no base, as kumatp_config_from_pod() has them, and empty if no
 * configuration can be made of it; "notes", as kumatp_config_notes() has them.
 *
 * @param dataplane  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_to_json(const struct kumatp_dataplane *dataplane,
                                       struct kumatp_text **out,
                                       struct kumatp_error **err);

/**
 * Makes the configuration of the host that a Dataplane's workload runs on: which directions are redirected and to which ports,
 * and the address families.
 *
 * @param dataplane  lent
 * @param base  what the configuration says of all else, lent; NULL stands for Kuma's defaults
 * @param[out] out  the configuration, with the notes of both; the caller's, for kumatp_config_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the Dataplane has no section networking.transparentProxying
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_from_dataplane(const struct kumatp_dataplane *dataplane,
                                           const struct kumatp_config *base,
                                           struct kumatp_config **out,
                                           struct kumatp_error **err);

/**
 * Writes the section networking.transparentProxying for the Dataplane of a workload whose host is configured so, as a JSON
 * document: "redirectPortInbound", "redirectPortOutbound" (both left out where nothing is redirected) and "ipFamilyMode".
 *
 * @param config  lent
 * @param[out] out  the section; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_config_to_transparent_proxying(const struct kumatp_config *config,
                                                    struct kumatp_text **out,
                                                    struct kumatp_error **err);

/**
 * Says where a Dataplane and the configuration of the host that its workload runs on disagree, as a JSON document: directions,
 * redirect ports, address families, and offered ports that connections reach without the sidecar.
 *
 * It is a list of notes, as kumatp_config_notes() has them, and empty if both describe the same transparent proxy.
 *
 * @param dataplane  lent
 * @param config  lent
 * @param[out] out  the list; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_compare(const struct kumatp_dataplane *dataplane,
                                       const struct kumatp_config *config,
                                       struct kumatp_text **out,
                                       struct kumatp_error **err);

/**
 * Says which services and backends a Dataplane's workload reaches, on which ports, and why.
 *
 * What is asked is one JSON document, with members that are all optional: "resources", a list of the resources of the mesh:
 * MeshService, MeshExternalService, MeshMultiZoneService, Dataplane (for the values of kuma.io/service) and Mesh; other kinds are
 * passed over. An item is an object: a resource, or a list of them as its "items"; or a text in YAML or JSON, with one
 * document or several (in JSON only, if this build of the library reads no YAML). "profile" is the generation of Kuma, "kuma-3" (by
 * default) or "kuma-2.9"; "explain", a list of names that are to be explained; "transparentProxy", true if kuma-dp runs with
 * --transparent-proxy, as on Kubernetes, so that the Dataplane need not say that there is a transparent proxy;
 * "transparentProxyConfig", the configuration that it is given by --transparent-proxy-config, an object or a text.
 *
 * The result is a JSON document. Its members: "profile"; "backendRule" and "serviceRule", what decides, as text; "backends",
 * those that are reachable for certain: objects with "kind", "mesh", "name", "ports" (objects with "port" and, if it has one,
 * "name") and, if it has one, "namespace"; "byChance", in the same form those ports that Kuma might choose, and might not;
 * "choices", one object for each reference whose matches Kuma takes by chance, with "path", "reference", "oneOf" (it takes
 * exactly one of these), "perhaps" (and any of these), of both no more than 100, and "oneOfCount" and "perhapsCount", how many there
 * are; "services", the reachable values of kuma.io/service; "explanations", an object that has for each
 * name of "explain" a list, one item for each backend or service of that name: objects as those in "backends" (a service has
 * neither "kind" nor "namespace"), with "reachable" (true if it is for certain, else false), "portsByChance", "rule" (what decides,
 * as text), "why" (the answer in words) and "references", where references decide: objects with "path", "reference", "matches"
 * (true or false), "byChance" (true or false) and "why"; "notes", as kumatp_config_notes() has them: references that match
 * nothing, ports that no destination has, choices that Kuma leaves to chance.
 *
 * @param dataplane  lent
 * @param query  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the answer; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `query` is not such a document; KUMATP_E_CONFIG if a resource is not valid, with
 *         all problems of all of them, whose fields begin with "resources[2]: " for the third item
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_dataplane_reach(const struct kumatp_dataplane *dataplane,
                                     const char *query,
                                     size_t len,
                                     struct kumatp_text **out,
                                     struct kumatp_error **err);

/**
 * Frees a Dataplane. NULL is fine. What was made from it stays valid.
 *
 * Since 0.1.
 */
void kumatp_dataplane_free(struct kumatp_dataplane *dataplane);

/**
 * Looks at the host for the facts that a plan for a configuration needs. Reads, and changes nothing.
 *
 * Network interfaces and what the engine can do are those of the network namespace; users and resolv.conf are
 * those that the calling process sees.
 *
 * @param config  lent
 * @param engine  one of KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES and KUMATP_ENGINE_EBPF; what it can do is part of the facts
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param[out] out  the facts; the caller's, for kumatp_facts_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if the sidecar's user cannot be told; KUMATP_E_UNSUPPORTED if
 *         the engine cannot work there; KUMATP_E_CONFIG if "ebpf.cgroupPath" is no cgroup2 (eBPF); KUMATP_E_PERMISSION;
 *         KUMATP_E_OS; KUMATP_E_PROGRAM (iptables)
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_facts_probe(const struct kumatp_config *config,
                                 uint32_t engine,
                                 int32_t netns_fd,
                                 struct kumatp_facts **out,
                                 struct kumatp_error **err);

/**
 * Makes the facts of a host that can do everything, with usable IPv6, without Docker, whose name servers nobody
 * looked for. For tests, and for rules that are to be shown only.
 *
 * @param sidecar_uid  the uid that the sidecar runs as, 0 to 4294967294
 * @param[out] out  the facts; the caller's, for kumatp_facts_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_facts_capable_host(uint32_t sidecar_uid,
                                        struct kumatp_facts **out,
                                        struct kumatp_error **err);

/**
 * Reads facts from a JSON document, as kumatp_facts_to_json() writes it.
 *
 * Its members: "sidecarUid" (a uid as text, the only one that must be there); "loopback" (name of the interface, "lo");
 * "resolvers", the name servers, which matter only if DNS queries to them are to be redirected: "path" (text),
 * "servers" (list of addresses, a link-local one perhaps with its interface, as "fe80::1%eth0"), "skipped" (list of text);
 * "ipv6": "state", which is "usable", "linkLocal", "unaddressed", "unusable" with "reason", or "refused" with "reason" and "remedy"; "ipv4Abilities" and "ipv6Abilities": "comments",
 * "conntrackZones", "mangle" (all true if not given) and "dockerOutput" (false), whether the host has them;
 * "remarks", a list of objects with "about", "text" and "warning" (true or false).
 *
 * @param json  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the facts; the caller's, for kumatp_facts_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if `json` is not such a document
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_facts_parse(const char *json,
                                 size_t len,
                                 struct kumatp_facts **out,
                                 struct kumatp_error **err);

/**
 * Writes facts as a JSON document that kumatp_facts_parse() reads back.
 *
 * @param facts  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_facts_to_json(const struct kumatp_facts *facts,
                                   struct kumatp_text **out,
                                   struct kumatp_error **err);

/**
 * Reads the name servers from the text of a resolv.conf, as the member "resolvers" of kumatp_facts_parse().
 *
 * @param path  what the file is called in messages, lent; may be empty
 * @param path_len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param text  the text, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the member's value, JSON; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_resolvers_parse(const char *path,
                                     size_t path_len,
                                     const char *text,
                                     size_t len,
                                     struct kumatp_text **out,
                                     struct kumatp_error **err);

/**
 * Frees facts. NULL is fine.
 *
 * Since 0.1.
 */
void kumatp_facts_free(struct kumatp_facts *facts);

/**
 * Makes the rules that a configuration asks for on a host with these facts. Pure: the same inputs give the same plan,
 * and nothing is read or changed.
 *
 * @param config  lent; the plan keeps a copy
 * @param facts  lent; the plan keeps what it needs
 * @param[out] out  the plan; the caller's, for kumatp_plan_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if the facts make what was asked for impossible: name servers are
 *         needed and unknown, IPv6 is required and not usable, or it is in use and refused
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_build(const struct kumatp_config *config,
                                const struct kumatp_facts *facts,
                                struct kumatp_plan **out,
                                struct kumatp_error **err);

/**
 * Writes a plan's rules as text. The same plan gives the same text.
 *
 * With KUMATP_FAMILY_ALL, KUMATP_SYNTAX_IPTABLES has the headings "### IPv4 ###" and "### IPv6 ###", which only
 * kumatp_save_translate() reads: give the restore programs one family each.
 *
 * KUMATP_SYNTAX_JSON has the members "ipv4" and, unless IPv6 is left out, "ipv6", each with "tables": objects with
 * "name" and "chains", those with "name" and "rules"; a rule has "placement" ("append" or "insert"), "matches", "target"
 * and, where there is one, "comment" and "origin", the configuration key that asked for it; "notes" as
 * kumatp_plan_notes() has them. Later versions may add members.
 *
 * KUMATP_SYNTAX_MERMAID, _DOT and _EBPF are for readers and not for programs: what is drawn or told, and in which words, may change.
 *
 * @param plan  lent
 * @param syntax  one of KUMATP_SYNTAX_*
 * @param family  one of KUMATP_FAMILY_*; KUMATP_SYNTAX_FIREWALLD, _JSON, _NATIVE and _EBPF have KUMATP_FAMILY_ALL only
 * @param flags  0 or KUMATP_RENDER_LONG
 * @param[out] out  the text; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT, also for IPv6 where the plan leaves it out; KUMATP_E_UNSUPPORTED for a syntax that
 *         has no text for one family, and for KUMATP_SYNTAX_EBPF of a plan that the engine refuses, or in a library without it
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_render(const struct kumatp_plan *plan,
                                 uint32_t syntax,
                                 uint32_t family,
                                 uint32_t flags,
                                 struct kumatp_text **out,
                                 struct kumatp_error **err);

/**
 * Writes what an operator should know about a plan, as a JSON document: protections left out, settings without effect.
 *
 * It is a list of notes, as kumatp_config_notes() has them.
 *
 * @param plan  lent
 * @param[out] out  the list; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_notes(const struct kumatp_plan *plan,
                                struct kumatp_text **out,
                                struct kumatp_error **err);

/**
 * Writes a script for "nft -f" that removes every installation in nf_tables of our own; those in iptables stay.
 *
 * @param[out] out  the script; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_nft_removal(struct kumatp_text **out,
                                 struct kumatp_error **err);

/**
 * Frees a plan. NULL is fine.
 *
 * Since 0.1.
 */
void kumatp_plan_free(struct kumatp_plan *plan);

/**
 * Simulates packets with a plan's rules, without a kernel: where each ends, and which
 * rules it meets.
 *
 * The packets are a document: one packet as text, or JSON, which is an object or a text for one packet, or a list of
 * both. What is not said of a packet has an ordinary value.
 *
 * As text, a packet is "outbound" (which may be left out), "inbound" or "forwarded"; the protocol; the destination, an
 * address with a port; and as wanted, in any order: "from" and the source, with or without a port; "uid N"; "gid N"; "no-socket"
 * (made by the kernel itself); "in" and "out", each with an interface; "new" (by default), "midstream" (begins in the middle),
 * "lost" and "lostanswer" (of a connection whose entry was lost, from who opened it or to them), "reused" (an older entry has its
 * addresses and ports, and is not translated), "established" or "invalid", its state in connection tracking. Such as
 * "tcp 10.1.2.3:443 uid 1000", and "inbound tcp [fd00::5]:8080".
 *
 * As an object, its members are "direction", "protocol", "destination", "destinationPort", "source", "sourcePort", "uid",
 * "gid", "noSocket", "inInterface", "outInterface" and "tracking", with the same words: ports and ids are numbers, "noSocket" is
 * true or false, all else is text.
 *
 * The result is a JSON document: an object for one packet, and for a list a list of objects in the same order. The
 * members of an object: "verdict", an object whose member "end" is "delivered", "redirected" (with the number "port"),
 * "dropped", "established" (it goes where its connection goes) or "undecided" (with "reason"); "zone", the number of the
 * conntrack zone; "log", its lines in the kernel log, each with "prefix" and "level"; "trace", the rules that matched, in
 * order, each with "table", "chain", "effect" and, where there are any, "number" (in its chain, from 1), "rule" (its text),
 * "purpose" and "key" (the configuration key that asked for it); and, where a rule decided, "decidedBy", its
 * index in "trace".
 *
 * @param plan  lent
 * @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
 *         KUMATP_ENGINE_EBPF
 * @param packets  the document, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the explanations; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if a packet is not valid, with each that is not: the field is
 *         "packet", or "packets[2]" for the third of a list, and of an object its member ("packets[2].uid")
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_simulate(const struct kumatp_plan *plan,
                                   uint32_t engine,
                                   const char *packets,
                                   size_t len,
                                   struct kumatp_text **out,
                                   struct kumatp_error **err);

/**
 * Explains connections and queries by a plan's rules, without a kernel: of their first
 * packet, and of the answer to it.
 *
 * The result is a JSON document: an object for one packet, and for a list a list of objects in the same order. The
 * members of an object: "summary", a paragraph of text; "packet", the packet as an object; "request", its outcome,
 * as kumatp_plan_simulate() has it; and, where an answer is to be expected, "reply": an object with "packet" and "outcome"
 * of the answer, and "arrival", which is "asSent", "translatedBack" (it seems to come from where the request was sent),
 * "lost" or "undecided" (both with "reason").
 *
 * @param plan  lent
 * @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
 *         KUMATP_ENGINE_EBPF
 * @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the explanations; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return as kumatp_plan_simulate()
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_explain(const struct kumatp_plan *plan,
                                  uint32_t engine,
                                  const char *packets,
                                  size_t len,
                                  struct kumatp_text **out,
                                  struct kumatp_error **err);

/**
 * Writes the packets that a plan's rules tell apart, as a JSON document: for each rule packets that it is for, and
 * packets that differ from those in one thing so that it is not.
 *
 * It is a list of texts that kumatp_plan_simulate() takes as it is. The same plan gives the same list.
 *
 * @param plan  lent
 * @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
 *         KUMATP_ENGINE_EBPF
 * @param[out] out  the list; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_edges(const struct kumatp_plan *plan,
                                uint32_t engine,
                                struct kumatp_text **out,
                                struct kumatp_error **err);

/**
 * Says what is different between the rules of two plans, and whose traffic it concerns, as a JSON document.
 *
 * Its members: "removed" and "added", the rules that only the first and only the second plan has: objects with
 * "family" ("ipv4" or "ipv6"), "table", "chain", "rule" and, where there is one, "key"; "reordered", the chains whose common
 * rules come in another order; "traffic", the classes of packets that are treated in another way: objects with "example" (a
 * packet as an object), "tried" (how many of the packets that were tried are of this class), "before" and "after",
 * each with "verdict" and "zone" as kumatp_plan_simulate() has them, "log" (a number of lines) and, where there is one, "key".
 * The packets that are tried are those of kumatp_plan_edges() of both.
 *
 * @param before  the first plan, lent
 * @param after  the second plan, lent
 * @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
 *         KUMATP_ENGINE_EBPF
 * @param[out] out  the difference; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_diff(const struct kumatp_plan *before,
                               const struct kumatp_plan *after,
                               uint32_t engine,
                               struct kumatp_text **out,
                               struct kumatp_error **err);

/**
 * Asks whether an engine could carry a plan out in a network namespace. Nothing changes; the kernel may load modules.
 *
 * @param plan  lent
 * @param engine  KUMATP_ENGINE_NETLINK: the kernel is shown every rule, and asked whether it would take it; KUMATP_ENGINE_EBPF: the
 *         kernel checks the programs, which are not attached
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param flags  0
 * @param[out] err  may be NULL
 * @return KUMATP_OK if it could; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if the kernel lacks something, and for
 *         KUMATP_ENGINE_IPTABLES; KUMATP_E_CONFIG if "ebpf.cgroupPath" is no cgroup2 (eBPF); KUMATP_E_PERMISSION;
 *         KUMATP_E_CONFLICT; KUMATP_E_OS
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_check(const struct kumatp_plan *plan,
                                uint32_t engine,
                                int32_t netns_fd,
                                uint32_t flags,
                                struct kumatp_error **err);

/**
 * Makes a plan's rules the active ones in a network namespace, in place of an older installation.
 *
 * If exactly these rules are active, nothing changes. If it fails, the rules are those from before, unless the message
 * says otherwise. The configuration's "storeFirewalld" is up to the caller: see kumatp_firewalld_store().
 *
 * The report is a JSON document: "changed" (true or false) and "reports", a list with one object for each engine
 * that was at work: "engine" ("netlink", "iptables" or "ebpf"), "changed", "steps" (what was done, a list of text) and "notes"
 * (see kumatp_config_notes()).
 *
 * @param plan  lent; its configuration must not say "dryRun"
 * @param engine  one of KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES and KUMATP_ENGINE_EBPF, which takes the place of the others'
 *         installations, as they do of its
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param flags  0 or KUMATP_APPLY_REPLACE_LEGACY
 * @param[out] out  the report; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG for a plan that is to be shown only ("dryRun"), and if "ebpf.cgroupPath" is no
 *         cgroup2 or "ebpf.bpffsPath" no place for a bpffs (eBPF); KUMATP_E_UNSUPPORTED if the kernel or the host lacks something,
 *         or the engine cannot do what a key asks for; KUMATP_E_PERMISSION; KUMATP_E_CONFLICT; KUMATP_E_OS; KUMATP_E_PROGRAM
 *         (iptables)
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_plan_apply(const struct kumatp_plan *plan,
                                uint32_t engine,
                                int32_t netns_fd,
                                uint32_t flags,
                                struct kumatp_text **out,
                                struct kumatp_error **err);

/**
 * Removes what any version of this library, of kumatp or of kumactl has installed in a network namespace, and nothing
 * else. Nothing being installed is success.
 *
 * With KUMATP_ENGINE_ALL, an engine that cannot be used there has a note that says why in its report. Entries in firewalld's
 * file are removed by kumatp_firewalld_unstore().
 *
 * @param config  lent; only the programs of the iptables engine, the waiting for them, "ebpf.bpffsPath" and "dryRun" matter. May
 *         be NULL for the defaults
 * @param engines  KUMATP_ENGINE_ALL, or one of KUMATP_ENGINE_*
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param flags  0 or KUMATP_UNINSTALL_DRY_RUN
 * @param[out] out  the report, as kumatp_plan_apply() has it; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if no engine can work there; KUMATP_E_PERMISSION;
 *         KUMATP_E_CONFLICT if something that is not ours uses what is; KUMATP_E_OS; KUMATP_E_PROGRAM (iptables)
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_uninstall(const struct kumatp_config *config,
                               uint32_t engines,
                               int32_t netns_fd,
                               uint32_t flags,
                               struct kumatp_text **out,
                               struct kumatp_error **err);

/**
 * Puts the resolv.conf back that old versions of Kuma have changed, if they left a copy: resolv.conf.kuma-backup of
 * the directory. Nothing being there is success.
 *
 * @param etc  the directory, lent; empty for "/etc"
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the report, as kumatp_plan_apply() has it; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if this build of the library changes no host
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_resolv_conf_restore(const char *etc,
                                         size_t len,
                                         struct kumatp_text **out,
                                         struct kumatp_error **err);

/**
 * Explains connections and queries by all the rules that are active in a network namespace, ours and those of
 * other programs: of their first packet, and of the answer to it. Nothing is sent, and nothing changes.
 *
 * Tables of nf_tables, ours and those of other programs, are read from the kernel; what is in tables of iptables, its programs list, which
 * are run only if there are some. Tables of bridges and ARP are not followed, which the notes say. Where the answer depends on
 * rules that are there and could not be read, or on a part of a rule that is not known here, the "end" of a "verdict" is
 * "undecided".
 *
 * The result is a JSON document: "answers", which is for one packet an object, and for a list a list of objects in the
 * same order, each as kumatp_plan_explain() has it; and "notes", what is not known of the rules, as kumatp_config_notes() has
 * them.
 *
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the explanations; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if a packet is not valid; KUMATP_E_PERMISSION if the caller may not
 *         look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if this build of the library reads no host
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_installed_explain(int32_t netns_fd,
                                       const char *packets,
                                       size_t len,
                                       struct kumatp_text **out,
                                       struct kumatp_error **err);

/**
 * Says what applying a plan in a network namespace would change: between the rules that are installed there, by any version of
 * this library, of kumatp or of kumactl, and those of the plan. Nothing changes.
 *
 * The rules of other programs are not compared.
 *
 * The result is a JSON document: "diff", as kumatp_plan_diff() has it from what is installed to the plan; "engine", which has
 * installed what there is ("netlink" or "iptables"; "netlink" if there is nothing), and as which the rules of the plan are
 * written; "earlier", the nat chains of other programs that the kernel calls before ours, as kumatp_state_to_json() has them; and "notes",
 * what could not be read, as kumatp_config_notes() has them.
 *
 * @param plan  lent
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param[out] out  the difference; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_PERMISSION if the caller may not look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if
 *         this build of the library reads no host
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_installed_diff(const struct kumatp_plan *plan,
                                    int32_t netns_fd,
                                    struct kumatp_text **out,
                                    struct kumatp_error **err);

/**
 * Looks at what is installed in a network namespace, by any engine, and how it compares with a plan. Changes nothing.
 *
 * Without a plan, what is in nf_tables is compared with what was installed, which is noted there, and eBPF programs are looked for
 * in /sys/fs/bpf, and whether all are attached. Comparing rules of iptables needs a plan and runs the iptables programs; nothing
 * else does.
 *
 * @param plan  lent; may be NULL
 * @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
 * @param flags  0
 * @param[out] out  the state; the caller's, for kumatp_state_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_PERMISSION if the caller may not look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if
 *         this build of the library reads no host
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_state_read(const struct kumatp_plan *plan,
                                int32_t netns_fd,
                                uint32_t flags,
                                struct kumatp_state **out,
                                struct kumatp_error **err);

/**
 * Returns what was found: one of KUMATP_STATE_*; KUMATP_STATE_ABSENT for NULL.
 *
 * Never fails. Since 0.1.
 */
uint32_t kumatp_state_kind(const struct kumatp_state *state);

/**
 * Returns the engines whose rules were found: the sum of their KUMATP_ENGINE_*, which is one of them unless two have rules
 * at once; 0 if there are none, and for NULL.
 *
 * Never fails. Since 0.1.
 */
uint32_t kumatp_state_engines(const struct kumatp_state *state);

/**
 * Writes what was found as a JSON document.
 *
 * Its members: "status", with "state" ("absent", "current", "drifted" or "uncompared") and, where it is drifted,
 * "differences", a list of text, or where it is uncompared, "reason"; "installations", a list of objects with "engine"
 * ("netlink", "iptables" or "ebpf"), for iptables "mode" ("nft" or "legacy"), "families" (a list of "ipv4" and "ipv6"), "status"
 * as above, and for ebpf "programs": "dir" (where they are pinned), "generation", "attached" (a list of objects with "hook" and the
 * numbers "program", "link" and "target" of the kernel) and "counters" (an object of numbers); "earlier" where nat chains of other programs are called before those that are installed, a list of
 * objects with "family", "table", "chain", "hook", "priority" and "certain"; and "notes" where something could not be looked at, as kumatp_config_notes() has them.
 *
 * @param state  lent
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK or KUMATP_E_ARGUMENT
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_state_to_json(const struct kumatp_state *state,
                                   struct kumatp_text **out,
                                   struct kumatp_error **err);

/**
 * Frees a state. NULL is fine.
 *
 * Since 0.1.
 */
void kumatp_state_free(struct kumatp_state *state);

/**
 * Writes firewalld's direct.xml with the rules of a plan in it, in place of older ones of kumatp. All else stays as it is,
 * byte for byte.
 *
 * @param plan  lent
 * @param existing  the document as it is, lent; empty makes a new one; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the document is not XML, or not firewalld's;
 *         KUMATP_E_UNSUPPORTED if this build of the library knows no firewalld
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_firewalld_merge(const struct kumatp_plan *plan,
                                     const char *existing,
                                     size_t len,
                                     struct kumatp_text **out,
                                     struct kumatp_error **err);

/**
 * Writes firewalld's direct.xml without our entries. One that has none stays as it is.
 *
 * @param existing  the document as it is, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the document; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return as kumatp_firewalld_merge()
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_firewalld_remove(const char *existing,
                                      size_t len,
                                      struct kumatp_text **out,
                                      struct kumatp_error **err);

/**
 * Writes the rules of a plan to firewalld's file, as kumatp_firewalld_merge() does. The file is replaced in one step, and
 * firewalld reads it when it starts or reloads.
 *
 * @param plan  lent
 * @param path  the file, lent; empty for "/etc/firewalld/direct.xml"
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] changed  1 if the file has changed, 0 if it had these rules
 * @param[out] err  may be NULL
 * @return as kumatp_firewalld_merge(), and KUMATP_E_OS if the file cannot be read or written; it is unchanged then
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_firewalld_store(const struct kumatp_plan *plan,
                                     const char *path,
                                     size_t len,
                                     int32_t *changed,
                                     struct kumatp_error **err);

/**
 * Takes our entries out of firewalld's file, as kumatp_firewalld_remove() does. No file is as good as one without them.
 *
 * @param path  the file, lent; empty for "/etc/firewalld/direct.xml"
 * @param len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] changed  1 if there were any, 0 if not
 * @param[out] err  may be NULL
 * @return as kumatp_firewalld_store()
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_firewalld_unstore(const char *path,
                                       size_t len,
                                       int32_t *changed,
                                       struct kumatp_error **err);

/**
 * Translates iptables-save or iptables-restore text, whoever wrote it, into another syntax.
 *
 * The text may have the headings "### IPv4 ###" and "### IPv6 ###", or the lines that iptables-save and ip6tables-save begin
 * with; without them, it is all IPv4.
 *
 * KUMATP_SYNTAX_NFT is a script for "nft -f" that puts the rules into our own tables; KUMATP_SYNTAX_FIREWALLD is a whole
 * direct.xml; KUMATP_SYNTAX_JSON has the members "ipv4" and "ipv6", as far as the text has them, each with "tables":
 * objects with "name", "chains" and "rules". A rule has "chain", "placement" ("append", or an object whose member "insert" is a
 * place from 1), "spec" (its text), and either "rule" or "unknown" (what is not known here) and "parts": "matches", the conditions,
 * of which those with the "match" "unknown" have "text"; "target", such as "drop", "jump", "goto" (both with "chain"), "unknown" (with
 * "name" and "text") or "none"; and "goesOn", whether it is certain that the packet goes on to the next rule unchanged.
 *
 * @param text  the rules, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  their length in bytes, or KUMATP_NUL_TERMINATED
 * @param syntax  one of KUMATP_SYNTAX_NFT, KUMATP_SYNTAX_FIREWALLD and KUMATP_SYNTAX_JSON
 * @param[out] out  the text; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax, or says what the other syntax
 *         cannot; KUMATP_E_UNSUPPORTED if this build of the library knows no firewalld
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_save_translate(const char *text,
                                    size_t len,
                                    uint32_t syntax,
                                    struct kumatp_text **out,
                                    struct kumatp_error **err);

/**
 * Explains connections and queries by the rules of iptables-save text, whoever wrote them, without
 * a kernel: of their first packet, and of the answer to it.
 *
 * A rule with a part that is not known here is judged by what is known of it; where that is not enough, the "end" of a
 * "verdict" is "undecided".
 *
 * @param text  the rules, as kumatp_save_translate() takes them, lent; at most KUMATP_MAX_TEXT bytes
 * @param text_len  their length in bytes, or KUMATP_NUL_TERMINATED
 * @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
 * @param packets_len  its length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the explanations, as kumatp_plan_explain() has them; the caller's, for kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax, or if packets are not valid or of
 *         a family that the text has nothing of
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_save_explain(const char *text,
                                  size_t text_len,
                                  const char *packets,
                                  size_t packets_len,
                                  struct kumatp_text **out,
                                  struct kumatp_error **err);

/**
 * Says what would be different if a plan's rules were active in place of those in iptables-save text, and whose
 * traffic it concerns.
 *
 * The rules of the text that count are those of any version of this library, of kumatp and of kumactl; the rules of other programs are
 * not compared. A family that the text has nothing of has no rules, so give what iptables-save and ip6tables-save print.
 *
 * @param plan  the plan, with its rules as KUMATP_ENGINE_IPTABLES installs them, lent
 * @param text  the rules, as kumatp_save_translate() takes them, lent; at most KUMATP_MAX_TEXT bytes
 * @param len  their length in bytes, or KUMATP_NUL_TERMINATED
 * @param[out] out  the difference, as kumatp_plan_diff() has it from the text to the plan; the caller's, for
 *         kumatp_text_free()
 * @param[out] err  may be NULL
 * @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax
 *
 * Since 0.1.
 */
KUMATP_MUST_USE
kumatp_status kumatp_save_diff(const struct kumatp_plan *plan,
                               const char *text,
                               size_t len,
                               struct kumatp_text **out,
                               struct kumatp_error **err);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* KUMATP_H */
