/* (x - mean) / std, one of each a number of the input. */
static void standardise(const float *x, float *y, const float *mean, const float *std, int count)
{
    int i;
    for (i = 0; i < count; i++) {
        y[i] = (x[i] - mean[i]) / std[i];
    }
}
