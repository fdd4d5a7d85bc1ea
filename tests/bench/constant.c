/* A responder that says always the same, in PowerDNS's remote protocol and to meshd's own method
 * `answer`: the ceiling for what stands behind a bridge.
 *
 *   constant SOCKET
 *
 * One thread a connection; a request line in, a reply line out. Rows are of the kind and number
 * that meshd gives for a service. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ZONE "mesh.internal."

static const char *find(const char *line, const char *key, char *out, size_t room) {
    const char *at = strstr(line, key);
    size_t n = 0;
    if (at) {
        at += strlen(key);
        at += strspn(at, ": \"");
        while (*at && *at != '"' && n + 1 < room) out[n++] = *at++;
    }
    out[n] = 0;
    return out;
}

static int rows(char *out, const char *name, const char *qtype) {
    int n = 0;
    if (!strcmp(qtype, "SOA"))
        return sprintf(out, "{\"qtype\":\"SOA\",\"qname\":\"%s\",\"content\":\"ns1." ZONE " h." ZONE
                       " 1 3600 600 86400 5\",\"ttl\":5,\"domain_id\":1,\"auth\":1,\"scopeMask\":0}", name);
    if (strcmp(qtype, "ANY") || strncasecmp(name, "svc", 3)) return 0;
    for (int i = 1; i <= 4; i++)
        n += sprintf(out + n, "{\"qtype\":\"A\",\"qname\":\"%s\",\"content\":\"172.16.0.%d\",\"ttl\":60,"
                     "\"domain_id\":1,\"auth\":1,\"scopeMask\":24},", name, i);
    n += sprintf(out + n, "{\"qtype\":\"TXT\",\"qname\":\"%s\",\"content\":\"\\\"1 i0-eu-0 1.0 eu 172.16.0.1:80\\\" "
                 "\\\"2 i0-eu-1 1.0 eu 172.16.0.2:80\\\" \\\"3 i0-eu-2 1.0 eu 172.16.0.3:80\\\" "
                 "\\\"4 i0-eu-3 1.0 eu 172.16.0.4:80\\\"\",\"ttl\":60,\"domain_id\":1,\"auth\":1,\"scopeMask\":24}", name);
    return n;
}

static int whole(char *out, const char *name, const char *qtype) {
    int n, is_there = !strncasecmp(name, "svc", 3);
    n = sprintf(out, "{\"result\":{\"rcode\":%d,\"scope\":24,\"answer\":[", is_there ? 0 : 3);
    if (is_there && atoi(qtype) == 1) {
        for (int i = 1; i <= 4; i++)
            n += sprintf(out + n, "%s\"%s 60 IN A 172.16.0.%d\"", i > 1 ? "," : "", name, i);
        return n + sprintf(out + n, "],\"authority\":[],\"additional\":[]}}\n");
    }
    return n + sprintf(out + n, "],\"authority\":[\"" ZONE " 5 IN SOA ns1." ZONE " h." ZONE
                       " 1 3600 600 86400 5\"],\"additional\":[]}}\n");
}

static void *serve(void *arg) {
    int fd = (int)(long)arg;
    char line[65536], name[512], qtype[32], method[64];
    char *reply = malloc(65536);
    size_t held = 0;
    ssize_t got;
    while ((got = read(fd, line + held, sizeof line - 1 - held)) > 0) {
        char *end;
        held += (size_t)got;
        line[held] = 0;
        while ((end = memchr(line, '\n', held))) {
            int n;
            *end = 0;
            find(line, "\"method\"", method, sizeof method);
            find(line, "\"qname\"", name, sizeof name);
            find(line, "\"qtype\"", qtype, sizeof qtype);
            if (!strcmp(method, "lookup")) {
                n = sprintf(reply, "{\"result\":[");
                n += rows(reply + n, name, qtype);
                n += sprintf(reply + n, "]}\n");
            } else if (!strcmp(method, "answer")) {
                n = whole(reply, name, qtype);
            } else if (!strcmp(method, "getAllDomains")) {
                n = sprintf(reply, "{\"result\":[{\"id\":1,\"zone\":\"" ZONE "\",\"kind\":\"native\",\"serial\":1}]}\n");
            } else if (!strcmp(method, "getAllDomainMetadata")) {
                n = sprintf(reply, "{\"result\":{}}\n");
            } else {
                n = sprintf(reply, "{\"result\":%s}\n", strcmp(method, "initialize") ? "false" : "true");
            }
            if (write(fd, reply, (size_t)n) != n) break;
            held -= (size_t)(end + 1 - line);
            memmove(line, end + 1, held);
        }
    }
    free(reply);
    close(fd);
    return NULL;
}

int main(int argc, char **argv) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (argc != 2 || listener < 0) return 2;
    strncpy(at.sun_path, argv[1], sizeof at.sun_path - 1);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 64)) return 1;
    for (;;) {
        pthread_t thread;
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && !pthread_create(&thread, NULL, serve, (void *)(long)fd)) pthread_detach(thread);
    }
}
