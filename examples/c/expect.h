/* Unit tests of rules: the outcome of a packet, without a kernel and without root.
 *
 *     EXPECT_DELIVERED(plan, "tcp 10.1.2.3:443 uid 5678", NULL);
 *     EXPECT_REDIRECTED(plan, "tcp 10.1.2.3:443 uid 1000", 15001, "redirect.outbound.enabled");
 *     EXPECT_DROPPED(plan, "inbound tcp 10.0.0.5:80 invalid", "dropInvalidPackets");
 *     return expect_failures;
 *
 * The last argument is the configuration key that the deciding rule came from, such as "redirect.outbound.excludePorts[2]", or without
 * the number for any item of a list; NULL for any. What does not hold is told on standard error, with the rules that
 * the packet met.
 */
#ifndef KUMATP_EXPECT_H
#define KUMATP_EXPECT_H

#include <kumatp.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT_DELIVERED(plan, packet, key) expect(__FILE__, __LINE__, (plan), (packet), "delivered", 0, (key))
#define EXPECT_REDIRECTED(plan, packet, port, key) expect(__FILE__, __LINE__, (plan), (packet), "redirected", (port), (key))
#define EXPECT_DROPPED(plan, packet, key) expect(__FILE__, __LINE__, (plan), (packet), "dropped", 0, (key))

/* How many expectations did not hold. */
static int expect_failures;

static const char *json_space(const char *at)
{
    while (isspace((unsigned char)*at))
        at++;
    return at;
}

/* The end of the value that begins here, in a valid document. */
static const char *json_end(const char *at)
{
    int depth = 0, in_text = 0;
    for (; *at != '\0'; at++) {
        if (in_text) {
            if (*at == '\\')
                at++;
            else if (*at == '"')
                in_text = 0;
        } else if (*at == '"') {
            in_text = 1;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']' || *at == ',' || *at == ':') {
            if (depth == 0)
                return at;
            if (*at == '}' || *at == ']')
                depth--;
        }
    }
    return at;
}

/* A member of an object, or with a number as its name an item of a list; NULL if there is none. Programs that have a
 * JSON library use that instead. */
static const char *json_at(const char *value, const char *name)
{
    const char *at;
    size_t length;
    long index = 0;

    if (value == NULL || name == NULL)
        return NULL;
    length = strlen(name);
    value = json_space(value);
    if (*value != '{' && *value != '[')
        return NULL;
    for (at = json_space(value + 1); *at != '}' && *at != ']' && *at != '\0'; index++) {
        int found;
        if (*value == '{') {
            found = strncmp(at + 1, name, length) == 0 && at[1 + length] == '"';
            at = json_space(json_end(at) + 1);
        } else {
            found = index == strtol(name, NULL, 10);
        }
        if (found)
            return at;
        at = json_end(at);
        at = json_space(*at == ',' ? at + 1 : at);
    }
    return NULL;
}

/* Whether a value is this text, or this text and a number in brackets. */
static int json_is(const char *value, const char *text)
{
    size_t length = strlen(text);
    return value != NULL && *value == '"' && strncmp(value + 1, text, length) == 0
        && (value[1 + length] == '"' || value[1 + length] == '[');
}

/* Prints a text or a number, with something before it; nothing if there is none. */
static void json_print(const char *before, const char *value)
{
    if (value == NULL)
        return;
    fputs(before, stderr);
    if (*value != '"') {
        fprintf(stderr, "%ld", strtol(value, NULL, 10));
        return;
    }
    for (value++; *value != '"' && *value != '\0'; value++) {
        if (*value == '\\' && value[1] != '\0')
            value++;
        fputc(*value, stderr);
    }
}

static void expect_trace(const char *request)
{
    const char *decided = json_at(request, "decidedBy");
    const char *trace = json_at(request, "trace");
    const char *step;
    char index[24];
    long i;

    for (i = 0; snprintf(index, sizeof index, "%ld", i), (step = json_at(trace, index)) != NULL; i++) {
        json_print(decided != NULL && strtol(decided, NULL, 10) == i ? "> " : "  ", json_at(step, "table"));
        json_print(" ", json_at(step, "chain"));
        json_print(" ", json_at(step, "number"));
        json_print(": ", json_at(step, "rule"));
        json_print("  # ", json_at(step, "purpose"));
        json_print("  # ", json_at(step, "key"));
        fputc('\n', stderr);
    }
    if (i == 0)
        fputs("  no rule matches it\n", stderr);
}

static void expect(const char *file, int line, const kumatp_plan *plan, const char *packet, const char *end, long port,
                   const char *key)
{
    kumatp_error *error = NULL;
    kumatp_text *text = NULL;
    const char *explanation, *request, *verdict, *to, *of;

    if (kumatp_plan_explain(plan, KUMATP_ENGINE_NETLINK, packet, KUMATP_NUL_TERMINATED, &text, &error) != KUMATP_OK) {
        fprintf(stderr, "%s:%d: %s: %s\n", file, line, packet, kumatp_error_message(error));
        kumatp_error_free(error);
        expect_failures++;
        return;
    }
    explanation = kumatp_text_data(text);
    request = json_at(explanation, "request");
    verdict = json_at(request, "verdict");
    to = json_at(verdict, "port");
    /* The number is followed by more, which strtol() does not mind. */
    of = json_at(json_at(json_at(request, "trace"), json_at(request, "decidedBy")), "key");
    if (!json_is(json_at(verdict, "end"), end) || (to == NULL ? 0 : strtol(to, NULL, 10)) != port
        || (key != NULL && !json_is(of, key))) {
        fprintf(stderr, "%s:%d: %s: expected: %s", file, line, packet, end);
        if (port != 0)
            fprintf(stderr, " to port %ld", port);
        if (key != NULL)
            fprintf(stderr, " by a rule from %s", key);
        json_print("\n", json_at(explanation, "summary"));
        fputc('\n', stderr);
        expect_trace(request);
        expect_failures++;
    }
    kumatp_text_free(text);
}

#endif
