/* (x - mean) / std, one of each a channel of so many numbers. */
static void standardise(const float *x, float *y, const float *mean, const float *std, int channels, int positions)
{
    int c, i;
    for (c = 0; c < channels; c++) {
        for (i = c * positions; i < (c + 1) * positions; i++) {
            y[i] = (x[i] - mean[c]) / std[c];
        }
    }
}
