/* Reads rows of float32 from stdin; writes logits and probabilities of each to stdout. With an argument: times single rows. */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>

#include HEADER

#define WARM_UP 20
#define CALLS 500

static float input[INPUTS], output[CLASSES], workspace[WORKSPACE];

static int time_rows(void)
{
    int n;
    for (n = 0; n < WARM_UP + CALLS; n++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        LOGITS(input, output, workspace);
        clock_gettime(CLOCK_MONOTONIC, &end);
        if (n >= WARM_UP) {
            printf("%ld\n", (long)(end.tv_sec - start.tv_sec) * 1000000000L + (end.tv_nsec - start.tv_nsec));
        }
    }
    return 0;
}

int main(int count, char **words)
{
    (void)words;
    if (count > 1) {
        return time_rows();
    }
    while (fread(input, sizeof *input, INPUTS, stdin) == INPUTS) {
        LOGITS(input, output, workspace);
        fwrite(output, sizeof *output, CLASSES, stdout);
        PROBABILITIES(input, output, workspace);
        fwrite(output, sizeof *output, CLASSES, stdout);
    }
    return 0;
}
