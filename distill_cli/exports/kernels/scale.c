/* factor * x + bias, one of each a channel; y may be x. */
static void scale_and_shift(const float *x, float *y, const float *factor, const float *bias, int channels, int count)
{
    int c, i;
    for (c = 0; c < channels; c++) {
        for (i = 0; i < count; i++) {
            *y++ = factor[c] * *x++ + bias[c];
        }
    }
}
